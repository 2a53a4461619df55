"""The controller's settings: those every part shares, and where its probes are."""

from pydantic import Field, field_validator

from jobcast.settings import CoreSettings, Port


class ControllerSettings(CoreSettings):
    http_port: Port = Field(8080, description="`/livez`, `/readyz`, `/metrics`, `/statusz`; 0 takes a free one")
    finalizer: bool = Field(False, description="Hold Jobs until their end is recorded. Not in this version yet")

    @field_validator("finalizer")
    @classmethod
    def _refuse_finalizer(cls, value: bool) -> bool:
        # Ignoring it would promise what is not kept.
        if value:
            raise ValueError("holding Jobs by a finalizer is not in this version yet; leave it false")
        return value
