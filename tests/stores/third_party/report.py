"""Trials as a table: for a terminal, and as docs/stores.md has it."""

from __future__ import annotations

from collections.abc import Sequence

from .trial import Trial

_YES, _NO = "yes", "no"


def as_text(trials: Sequence[Trial]) -> str:
    """A line a store, and below it what failed and what the store lacks."""
    if not trials:
        return "no store was tried"
    steps = list(dict.fromkeys(step for trial in trials for step in trial.steps))
    width = max(len(trial.store.title) for trial in trials)
    lines = [" ".join([" " * width, "version", *steps, "proof"])]
    for trial in trials:
        cells = [_cell(trial, step).center(len(step)) for step in steps]
        proof = trial.proofs.get("3 parts", _NO)
        lines.append(" ".join([trial.store.title.ljust(width), trial.store.version.ljust(7), *cells, proof]))
    for trial in trials:
        lines.append("")
        lines.append(f"{trial.store.title} {trial.store.version} ({trial.store.how})")
        lines += [f"  fails: {step}: {said}" for step, said in trial.steps.items() if said]
        if trial.store.arguments:
            lines.append(f"  needs: {' '.join(trial.store.arguments)}")
        lines.append(f"  proof: {', '.join(f'{what}: {level}' for what, level in trial.proofs.items())}")
        lines.append(f"  lacks: {', '.join(trial.lacks) or 'nothing that was asked for'}")
    return "\n".join(lines)


def as_markdown(trials: Sequence[Trial]) -> str:
    """The rows of the table in docs/stores.md."""
    lines = ["| store | how it was started | works | fails | `verified` | lacks |", "|---|---|---|---|---|---|"]
    for trial in trials:
        store = trial.store
        needs = f", with `{' '.join(store.arguments)}`" if store.arguments else ""
        failed = [step for step, said in trial.steps.items() if said]
        works = [step for step, said in trial.steps.items() if not said]
        cells = [
            f"{store.title} {store.version}",
            store.how,
            ("everything" if not failed else ", ".join(works)) + needs,
            ", ".join(failed) or "nothing",
            _proofs(trial),
            ", ".join(trial.lacks) or "nothing",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _proofs(trial: Trial) -> str:
    """The level of an upload in parts, and of `verify` where that proves more."""
    proof, verified = trial.proofs.get("3 parts", _NO), trial.proofs.get("verify", "")
    return f"`{proof}`" + (f"; by `verify`: `{verified}`" if verified not in ("", proof) else "")


def _cell(trial: Trial, step: str) -> str:
    if step not in trial.steps:
        return "-"
    return _NO if trial.steps[step] else _YES
