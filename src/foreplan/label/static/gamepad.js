// A gamepad: sticks set the motors, or the cross chooses an action; A labels, B skips, X looks ahead, Y takes back.

const BUTTONS = ["label", "skip", "preview", "undo"];

export function watchGamepad(entry, actions) {
  let before = [], moved = false, watching = false;
  const turn = () => {
    const pad = navigator.getGamepads().find(Boolean);
    if (!pad) return (watching = false);
    const buttons = pad.buttons.map((button) => button.pressed);
    const fresh = buttons.map((pressed, index) => pressed && !before[index]);
    const isMoved = pad.axes.some((axis) => Math.abs(axis) > 0.12);
    if (isMoved || moved || fresh.some(Boolean)) entry()?.stick(isMoved || moved ? pad.axes : [], fresh);
    BUTTONS.forEach((name, index) => fresh[index] && actions[name]());
    [before, moved] = [buttons, isMoved];
    requestAnimationFrame(turn);
  };
  addEventListener("gamepadconnected", () => {
    if (!watching) requestAnimationFrame(turn);
    watching = true;
  });
}
