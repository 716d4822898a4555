// Long names are cut in the middle: their ends tell them apart, as IMG_20261129_1042.jpg and IMG_20261129_1043.jpg.

const SHORT = 16; // characters that always have room
const TAIL = 10;

/** The spans of a name, the first of which is to be cut; of a short name, its text. */
export function middle(name) {
  if (name.length <= SHORT) return [name];
  const letters = [...name]; // no character is halved
  const span = (className, text) => Object.assign(document.createElement("span"), { className, textContent: text });
  return [span("head", letters.slice(0, -TAIL).join("")), span("tail", letters.slice(-TAIL).join(""))];
}
