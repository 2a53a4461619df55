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
        "Read from the environment when a part starts. A wrong one ends it with exit code 2 and one line that says what",
        "would be right. Generated from the models by `make docs`.",
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
            default = field.default
            shown = (
                "none"
                if default in (None, (), PydanticUndefined)
                else ",".join(default)
                if isinstance(default, tuple)
                else str(default)
            )
            lines.append(f"| `{name.upper()}` | `{shown}` | {cell(field.description or '')} |")
    return "\n".join(lines) + "\n"
