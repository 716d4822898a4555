// Small pictures of the files: of images in sight, one after another, so that a thousand photos cost nothing.

const EDGE = 88; // pixels: 44 CSS pixels on a sharp screen
const LARGEST = 40_000_000; // bytes; decoding more takes too much memory

export class Thumbs {
  #watched = new Map(); // element → row
  #queue = [];
  #busy = false;
  #sight = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "200px" });

  watch(row) {
    const { file } = row.item;
    if (!file?.type?.startsWith("image/") || file.size > LARGEST) return;
    this.#watched.set(row.element, row);
    this.#sight.observe(row.element);
  }

  forget(row) {
    this.#watched.delete(row.element);
    this.#sight.unobserve(row.element);
  }

  #seen(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#watched.get(target);
      if (!row || !isIntersecting) continue;
      this.forget(row);
      this.#queue.push(row);
    }
    this.#work();
  }

  async #work() {
    if (this.#busy) return;
    this.#busy = true;
    while (this.#queue.length) {
      const row = this.#queue.shift();
      try {
        row.thumb.replaceChildren(await picture(row.item.file));
      } catch {
        // It is no picture, or the file was changed: its type is shown.
      }
    }
    this.#busy = false;
  }
}

/** The middle of the picture, as a canvas: no URL of the file has to be allowed by the page's policy. */
async function picture(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = EDGE;
  const edge = Math.min(bitmap.width, bitmap.height);
  const [x, y] = [(bitmap.width - edge) / 2, (bitmap.height - edge) / 2];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, x, y, edge, edge, 0, 0, EDGE, EDGE);
  bitmap.close();
  return canvas;
}
