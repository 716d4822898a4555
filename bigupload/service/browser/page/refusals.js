// Files that were not added, and why.

import { few, t } from "./words.js";

const $ = (id) => document.getElementById(id);

/** Show [name, reason(count)] pairs, one notice for each reason: of a folder with a hundred other files, nobody reads a hundred. */
export function showRefused(refused) {
  const byReason = new Map();
  for (const row of refused) byReason.set(row[1](1), [...(byReason.get(row[1](1)) ?? []), row]);
  $("refused").replaceChildren(
    ...[...byReason.values()].map((rows) => {
      const names = rows.map(([name]) => name);
      const line = document.createElement("p");
      const strong = document.createElement("strong");
      strong.textContent = t("not_added", { count: names.length, name: names[0] });
      line.append(strong, ` ${rows[0][1](rows.length)} `);
      if (names.length > 1) line.append(Object.assign(document.createElement("span"), { textContent: few(names) }));
      return line;
    }),
  );
  if (!refused.length) return;
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "text", textContent: t("dismiss") });
  button.addEventListener("click", () => {
    $("refused").replaceChildren();
    $("files").focus();
  });
  $("refused").lastElementChild.append(button);
}
