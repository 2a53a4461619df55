"""The page of settings, from the models."""

from pydantic_core import PydanticUndefined

from controller.settings import ControllerSettings
from generators.tables import cell
from jobcast.service.settings import CoreSettings
from worker.settings import WorkerSettings


def page() -> str:
    lines = [
        "# Settings",
        "",
        "Controller and worker read their settings from the environment when they start. If a value is wrong, the process exits with",
        "code 2 and says what is allowed. `make docs` generates this page from the code.",
    ]
    core = CoreSettings.model_fields
    for title, model in (
        ("Controller and worker", CoreSettings),
        ("Controller", ControllerSettings),
        ("Worker", WorkerSettings),
    ):
        lines += ["", f"## {title}", "", "| name | default | meaning |", "| --- | --- | --- |"]
        for name, field in model.model_fields.items():
            if model is not CoreSettings and name in core:
                continue
            lines.append(f"| `{name.upper()}` | {_shown(field.default)} | {cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    """As it would stand in the environment."""
    if default in (None, (), PydanticUndefined):
        return "not set"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"
