"""The one base class of all settings: unknown keys are refused, every field carries its own explanation."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of params.yaml. Field descriptions become its comments and docs/settings.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
