"""<big-upload> in Node, with as much of a document as its properties and its rows' words need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tools.node import BROWSER, Call, node_modules

DOCUMENT = """
  const part = () => ({
    parts: {}, children: [], dataset: {}, classList: { toggle() {} }, part: { add() {} },
    querySelector(selector) { return (this.parts[selector] ??= part()); },
    addEventListener() {}, append() {}, setAttribute() {},
  });
  globalThis.document = { createElement: part };
  globalThis.CSSStyleSheet = class { replaceSync() {} };
  globalThis.customElements = { define() {}, get() {} };
  globalThis.HTMLElement = class {
    attributes = {};
    isConnected = false;
    attachInternals() { return { setFormValue() {}, setValidity() {} }; }
    attachShadow() { return part(); }
    hasAttribute(name) { return Object.hasOwn(this.attributes, name); }
    getAttribute(name) { return this.attributes[name] ?? null; }
    setAttribute(name, value) { this.attributes[name] = String(value); }
    removeAttribute(name) { delete this.attributes[name]; }
    toggleAttribute(name, on) { if (on) this.setAttribute(name, ""); else this.removeAttribute(name); }
    matches() { return false; }
  };
  const { BigUploadElement } = await import(at + "client/element.js");
  const element = new BigUploadElement();
"""


@pytest.fixture(scope="module")
def run() -> Iterator[Call]:
    """A Node process of its own: what stands for the document must not reach other tests."""
    with node_modules(BROWSER) as call:
        yield call


def test_properties_are_attributes(run: Call) -> None:
    body = """Object.assign(element, x);
    const set = { ...element.attributes };
    element.endpoint = null;
    element.multiple = false;
    return [set, element.endpoint, element.accept, element.multiple, element.required,
      "endpoint" in element.attributes];"""
    given = {"endpoint": "/uploads/", "name": "a", "accept": "image/*", "credentials": "include", "multiple": True}
    given["receiptName"] = "r"
    set_, *others = run("client/problem", DOCUMENT + body, given | {"required": True, "disabled": False})
    assert set_.pop("receipt-name") == given.pop("receiptName")
    assert set_ == given | {"multiple": "", "required": ""}
    assert others == [None, "image/*", False, True, False]


def test_properties_that_were_set_before_the_class_was_loaded_count(run: Call) -> None:
    body = """for (const [name, value] of Object.entries(x)) Object.defineProperty(element, name,
      { value, configurable: true, writable: true });
    element.setAttribute = function (name, value) { this.attributes[name] = value; };
    element.connectedCallback();
    return [element.attributes.endpoint, element.token, Object.hasOwn(element, "token")];"""
    assert run("client/problem", DOCUMENT + body, {"endpoint": "/", "token": "eyJ"}) == ["/", "eyJ", False]


def test_without_an_endpoint_the_console_says_so_once(run: Call) -> None:
    body = """const said = [], error = console.error;
    console.error = (text) => said.push(text);
    for (let each = 0; each < 2; each += 1) element.add([new File(["x"], "a.png")]);
    console.error = error;
    return [said, element.uploads.length];"""
    [said], uploads = run("client/problem", DOCUMENT + body)
    assert "endpoint is missing" in said
    assert uploads == 0


def test_what_was_stopped_before_its_first_byte_has_no_bar(run: Call) -> None:
    body = """const { Row } = await import(at + "client/element_row.js");
    const { Words } = await import(at + "client/words.js");
    return x.map(([state, sent]) => {
      const problem = { kind: "network", message: "No." };
      const row = new Row({ name: "a", size: 2, state, problem, progress: { sent, stored: sent } }, () => {});
      row.render(new Words(element.texts, "en"));
      return row.element.querySelector('[part~="bar"]').hidden;
    });"""
    shown = [["failed", 0], ["unauthorized", 0], ["failed", 1], ["uploading", 0]]
    assert run("client/problem", DOCUMENT + body, shown) == [True, True, False, False]


def test_a_refused_file_is_not_called_stopped(run: Call) -> None:
    body = """const { Row } = await import(at + "client/element_row.js");
    const { Words } = await import(at + "client/words.js");
    return x.map(([kind, state, note]) => {
      const running = state === "starting";
      const upload = { name: "a", state, note, running, problem: kind && { kind, message: "No." },
        progress: { sent: 0, size: 1 } };
      const row = new Row(upload, () => {});
      row.render(new Words(element.texts, "en"));
      return row.element.querySelector('[part~="status"]').textContent;
    });"""
    shown = [["refused", "failed", None], ["final", "failed", None], [None, "starting", "check"]]
    said = ["Not accepted", "Stopped", "A check of the service failed. Trying again…"]
    assert run("client/problem", DOCUMENT + body, shown) == said
