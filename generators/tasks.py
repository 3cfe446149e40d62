"""One writer, several tasks: the prompt's last line names the one that is asked for (a task token, as in EHRMamba's multitask prompting).

    recipe: tasks: [draft, acuity]          adds (prompt, target) pairs of the second task to the training of the first

A task is a line, and where its target stands; a study without that target is no example of it. What would give the target away is hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from regen.study import Study


@dataclass(frozen=True, slots=True)
class Task:
    """line: the end of the prompt; target: what a study answers, None where it does not; hides: codes of events that tell the answer."""

    line: str
    target: Callable[[Study], str | None]
    hides: tuple[str, ...] = ()

    def asked(self, study: Study) -> Study:
        """The study without what the task hides."""
        return replace(study, events=tuple(e for e in study.events if e.code not in self.hides)) if self.hides else study


def _acuity(study: Study) -> str | None:
    return next((f"{event.value:.0f}" for event in study.events if event.code == "TRIAGE//acuity" and event.value is not None), None)


TASKS = {
    "draft": Task("report ({language}):", lambda study: study.report or None),
    "impression": Task("impression ({language}):", lambda study: (study.sections or {}).get("impression")),
    "acuity": Task("acuity:", _acuity, ("TRIAGE//acuity",)),
}
