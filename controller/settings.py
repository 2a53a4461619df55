"""The controller's settings: those every part shares, and where its probes are."""

from pydantic import Field

from jobcast.service.settings import CoreSettings, Port


class ControllerSettings(CoreSettings):
    http_port: Port = Field(8080, description="`/livez`, `/readyz`, `/metrics`, `/statusz`; 0 takes a free one")
