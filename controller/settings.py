"""The controller's settings: those that controller and worker share, and the port of its probes."""

from pydantic import Field

from jobcast.service.settings import CoreSettings, Port


class ControllerSettings(CoreSettings):
    http_port: Port = Field(
        8080, description="Port for `/livez`, `/readyz`, `/metrics` and `/statusz`; 0 takes a free one"
    )
