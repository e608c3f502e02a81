"""Settings of operations: slots, time-outs, retries, notification, intake."""

from pydantic import Field

from pipeline.settings.base import Section


class OpsSettings(Section):
    """When and where stages run. Nothing here changes a result, so no stage depends on it."""

    stage_timeout_min: float = Field(
        0,
        ge=0,
        description="Minutes one stage may take before it and its children are killed; 0 means no limit.",
    )
    retries: int = Field(
        2, ge=0, le=20, description="How often a stage is tried again after a fault that may pass (killed, disk full)."
    )
    retry_wait_s: float = Field(20, ge=0, description="Seconds before the first retry; doubles with every further one.")
    min_free_gb: float = Field(
        1, ge=0, description="A stage does not start with less free disk than this, in GB (a transient fault)."
    )
    slot: str = Field(
        "device-0",
        pattern=r"^[a-z0-9-]+$",
        description="Name of the concurrency slot of this machine's device; flows of all checkouts queue for it.",
    )
    slot_lease_s: float = Field(
        60, ge=60, le=3600, description="Seconds until the slot of a killed run is free again; renewed while it lives."
    )
    push: bool = Field(False, description="Push data and models to the default DVC remote after each produced style.")
    webhook: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="URL that gets a JSON POST {text, style, ok, run} after each production run; empty for none.",
    )
    port: int = Field(4277, ge=1024, le=65535, description="Loopback port of the Prefect server that `ops up` starts.")
    intake_dir: str = Field(
        "data/intake", min_length=1, description="Folder watched for new styles: one sub-folder of pictures each."
    )
    intake_settle_s: float = Field(
        60, ge=0, description="A new sub-folder counts as complete once nothing in it changed for this many seconds."
    )
