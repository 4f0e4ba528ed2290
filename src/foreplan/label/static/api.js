// What is asked of the server. A refusal carries the server's reason; anything else that goes wrong is worth a retry.

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

export async function ask(name, message) {
  const options = message === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(message),
  };
  const response = await fetch(`/api/${name}`, options);
  if (response.status >= 500) throw new Error(`the server answered ${response.status}`);
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer.error);
  return answer;
}

// A picture, decoded, so that it can be shown at once.
export async function picture(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

export const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
export const newId = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`;
