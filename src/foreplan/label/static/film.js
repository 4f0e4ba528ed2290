// A film is one picture of many frames side by side; here it runs in a canvas, for ever.

const running = new Map();
let last = 0;

export function play(canvas, strip, frames, fps = 12, hold = 5) {
  const width = strip.naturalWidth / frames;
  canvas.width = width;
  canvas.height = strip.naturalHeight;
  running.set(canvas, { strip, frames, width, pause: 1000 / fps, hold, begun: performance.now(), drawn: -1 });
  draw(canvas, performance.now());
}

export function stop(canvas) {
  running.delete(canvas);
}

function draw(canvas, now) {
  const film = running.get(canvas);
  const index = Math.floor((now - film.begun) / film.pause) % (film.frames + film.hold);
  const frame = Math.max(0, Math.min(index, film.frames - 1)); // the last one stays a while
  if (frame === film.drawn) return;
  film.drawn = frame;
  const context = canvas.getContext("2d");
  context.drawImage(film.strip, frame * film.width, 0, film.width, canvas.height, 0, 0, film.width, canvas.height);
}

function turn(now) {
  if (now - last > 30) {
    last = now;
    for (const canvas of running.keys()) canvas.isConnected ? draw(canvas, now) : stop(canvas);
  }
  requestAnimationFrame(turn);
}
requestAnimationFrame(turn);
