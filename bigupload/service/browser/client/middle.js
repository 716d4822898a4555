// Long names are cut in the middle: their ends tell them apart, as IMG_20261129_1042.jpg and IMG_20261129_1043.jpg.

const SHORT = 16; // characters that always have room
const TAIL = 10;

/** A short name's text; of a long one a span.cut with span.head, which is cut where there is no room, and span.tail. */
export function middle(name) {
  if (name.length <= SHORT) return name;
  const letters = [...name]; // no character is halved
  const span = (className, text) => Object.assign(document.createElement("span"), { className, textContent: text });
  const cut = Object.assign(document.createElement("span"), { className: "cut", dir: "auto" }); // by the name, not the page
  cut.append(span("head", letters.slice(0, -TAIL).join("")), span("tail", letters.slice(-TAIL).join("")));
  return cut;
}
