// How <big-upload> looks: in the fonts and colours of its page. `--big-upload-accent` and `--big-upload-radius` may be set
// on it; its CSS parts are styled from outside.

const STYLE = `
  :host { display: block; font: inherit; --accent: var(--big-upload-accent, #3257d6);
    --line: color-mix(in srgb, currentColor 22%, transparent); --soft: color-mix(in srgb, currentColor 72%, transparent);
    --wash: color-mix(in srgb, currentColor 5%, transparent); --round: var(--big-upload-radius, .75rem); }
  :host([hidden]) { display: none; }
  * { box-sizing: border-box; }
  [part~="zone"] { display: grid; gap: .25em; justify-items: center; padding: 1.75em 1em; border: 2px dashed var(--line);
    border-radius: var(--round); background: var(--wash); text-align: center; cursor: pointer; }
  [part~="zone"] > span { font-weight: 600; }
  [part~="zone"] > small { color: var(--soft); }
  [part~="zone"]:has(:disabled) { opacity: .5; cursor: not-allowed; }
  [part~="zone"]:hover, [part~="zone"].over { border-color: var(--accent); }
  [part~="zone"].over { border-style: solid; }
  [part~="zone"]:focus-within { outline: 2px solid var(--accent); outline-offset: 2px; }
  input, [part~="said"] { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden;
    clip-path: inset(50%); white-space: nowrap; }
  [part~="total"], [part~="left"], [part~="notice"] { margin: .75em 0 0; font-size: .875em; }
  [part~="total"] { color: var(--soft); font-variant-numeric: tabular-nums; }
  [part~="left"] { display: flex; flex-wrap: wrap; gap: .5em; align-items: center; }
  [part~="left"] button { font-size: inherit; }
  [part~="notice"] { white-space: pre-line; }
  ul { list-style: none; margin: 0; padding: 0; }
  li { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: .25em .75em; align-items: center;
    padding: .75em 0; border-bottom: 1px solid var(--line); }
  li:last-child { border-bottom: 0; }
  [part~="thumb"] { display: grid; place-items: center; width: 2.75rem; height: 2.75rem; overflow: hidden;
    border-radius: calc(var(--round) / 2); background: var(--wash); color: var(--soft); font-size: .625rem;
    font-weight: 600; }
  [part~="thumb"] canvas { width: 100%; height: 100%; }
  [part~="what"] { min-width: 0; }
  [part~="name"] { font-weight: 550; white-space: pre; }
  [part~="name"] a, a .cut > * { color: inherit; text-decoration: underline; }
  .cut { display: inline-flex; max-width: 100%; vertical-align: bottom; }
  .head { overflow: hidden; text-overflow: ellipsis; }
  [part~="folder"] { margin: 0; overflow: hidden; color: var(--soft); font-size: .8125em; text-overflow: ellipsis;
    white-space: nowrap; }
  [part~="buttons"] { display: flex; gap: .375em; }
  button { min-height: 2.25em; padding: .25em .75em; border: 1px solid var(--line); border-radius: calc(var(--round) / 2);
    background: transparent; color: inherit; font: inherit; font-size: .875em; cursor: pointer; }
  button:hover { border-color: currentColor; }
  button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  progress { grid-column: 1 / -1; width: 100%; height: .375em; appearance: none; border: 0; border-radius: 1em;
    overflow: hidden; background: var(--line); }
  progress::-webkit-progress-bar { background: transparent; }
  progress::-webkit-progress-value { background: var(--accent); }
  progress::-moz-progress-bar { background: var(--accent); }
  [part~="status"], [part~="error"] { margin: 0; font-size: .875em; font-variant-numeric: tabular-nums; }
  [part~="status"] { color: var(--soft); }
  /* A name or a sentence has a direction of its own; it stands where the page's direction has it begin. */
  p, p > span, [part~="name"], [part~="zone"] > * { unicode-bidi: plaintext; text-align: -webkit-match-parent;
    text-align: match-parent; }
  button { unicode-bidi: plaintext; }
  [part~="error"] { grid-column: 1 / -1; padding-inline-start: .5em; border-inline-start: 3px solid #d33; font-weight: 550; }
  @media (max-width: 32em) {
    li { grid-template-columns: auto minmax(0, 1fr); }
    [part~="buttons"] { grid-column: 1 / -1; }
    [part~="buttons"] button, [part~="left"] button { flex: 1; }
  }
  @media (forced-colors: active) { progress { appearance: auto; } }
  @media (pointer: coarse) { button { min-height: 2.75rem; } }
  [hidden] { display: none !important; }
`;

let sheet = null; // made in a browser: a server that renders pages may import this module, too

export function style() {
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
  }
  return sheet;
}
