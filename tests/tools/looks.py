"""What is wrong with how the upload page or `<big-upload>` looks, as far as boxes tell it."""

from __future__ import annotations

from typing import Any

from tests.tools.browser import UploadPage

_WRONG = """() => {
  const wrong = [];
  const scrolls = document.documentElement.scrollWidth - innerWidth;
  if (scrolls > 0) wrong.push(`the page scrolls sideways by ${scrolls}`);
  const root = document.querySelector("big-upload")?.shadowRoot ?? document;
  const visible = (each) => each.checkVisibility() && each.getBoundingClientRect().width > 0;
  const all = (within, selector) => [...within.querySelectorAll(selector)].filter(visible);
  const buttons = all(root, "button, .button, [part~=zone]");
  for (const each of buttons) {
    if (each.scrollWidth > each.clientWidth + 1) wrong.push(`cut: ${each.textContent}`);
  }
  const texts = "[part~=name], [part~=status], [part~=folder], [part~=error], .name, .status, .folder, .remark";
  let looked = 0;
  for (const row of root.querySelectorAll("li.row, li[part~=row]")) {
    const of = row.getBoundingClientRect();
    for (const text of all(row, texts)) {
      looked += 1;
      const range = document.createRange();
      range.selectNodeContents(text);
      // What is drawn: a name's head is cut by its box, and its text goes on behind it.
      const pieces = text.querySelector(".head, .link") ? [...text.querySelectorAll(".head, .tail, .link")] : [range];
      for (const piece of pieces) {
        const box = piece.getBoundingClientRect();
        if (box.left < of.left - 1 || box.right > of.right + 1) wrong.push(`beside its row: ${text.textContent}`);
        for (const button of all(row, "button")) {
          const other = button.getBoundingClientRect();
          const apart = box.right <= other.left + 1 || other.right <= box.left + 1 || box.bottom <= other.top + 1
            || other.bottom <= box.top + 1;
          if (!apart) wrong.push(`${text.textContent} under ${button.ariaLabel}`);
        }
      }
    }
  }
  return { wrong, looked };
}"""


def wrong(page: UploadPage) -> list[str]:
    """Texts under buttons, beside their rows, or cut; a page that scrolls sideways."""
    found: Any = page.page.evaluate(_WRONG)
    assert found["looked"] or not page.page.locator("li.row, big-upload li").count(), "rows without a text"
    complaints: list[str] = found["wrong"]
    return complaints
