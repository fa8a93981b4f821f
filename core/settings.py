# SPDX-License-Identifier: Apache-2.0
"""Settings of one installation, read from the environment (prefix MLA_)."""

import hashlib
import ipaddress
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SpecError


class Settings(BaseSettings):
    """Every field can be set as MLA_<NAME>; the defaults make `serve` work on a bare machine."""

    model_config = SettingsConfigDict(env_prefix="MLA_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        Path("~/.mla-workbench"), description="database, logs, results, the prepared demo model"
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty means SQLite inside data_dir")
    broker_url: str = Field("", description="Celery broker URL; empty means the embedded Valkey server")
    host: str = Field("127.0.0.1", description="address the page listens on")
    port: int = Field(7860, description="port the page listens on", ge=0, le=65535)
    lease_seconds: float = Field(30.0, description="a job whose heartbeat is older is taken for dead", gt=0)
    heartbeat_seconds: float = Field(5.0, description="how often a running job renews its lease", gt=0)
    threads: int = Field(0, description="CPU threads of a conversion; 0 means all cores", ge=0)
    concurrency: int = Field(1, description="jobs one worker runs at the same time; they share its GPU", ge=1)
    chat_memory_gb: float = Field(
        0.0, description="memory the chat's process may take; 0 means 40 % of the machine's", ge=0
    )
    chat_idle_minutes: float = Field(5.0, description="the chat's process ends when nobody asks", gt=0)
    quota_gb: float = Field(
        0.0, description="disk that jobs and profiles may take, in gigabytes; 0 means no limit", ge=0
    )
    webhook_url: str = Field(
        "", description="gets a JSON POST whenever a job has ended; empty means nobody is told"
    )

    @field_validator("webhook_url")
    @classmethod
    def _webhook_is_http(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("it must start with http:// or https://")
        return value

    upload_mb: int = Field(64, description="largest text that may be uploaded, in MB", ge=1)
    text_roots: str = Field(
        "",
        description="folders whose texts page and API may read, separated like PATH; empty: any on "
        "loopback, none when others reach the page",
    )
    model_roots: str = Field(
        "",
        description="folders whose models page and API may read, separated like PATH; empty: any on "
        "loopback, none when others reach the page",
    )

    @field_validator("heartbeat_seconds")
    @classmethod
    def _a_beat_may_be_missed(cls, value: float, info: ValidationInfo) -> float:
        lease = info.data.get("lease_seconds")
        if lease is not None and value > lease / 2:
            raise ValueError(
                f"{value:g} is more than half of lease_seconds {lease:g}: one late beat loses a job"
            )
        return value

    @cached_property
    def home(self) -> Path:
        """The data folder, absolute; it may not exist yet."""
        return self.data_dir.expanduser().absolute()

    @cached_property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.home / 'workbench.db'}"

    @cached_property
    def broker_socket(self) -> Path:
        """Unix socket of the embedded broker: short, since the kernel allows 107 bytes."""
        tag = hashlib.sha256(str(self.home).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"mla-{tag}" / "v.sock"

    @cached_property
    def broker(self) -> str:
        """The Celery broker URL in force."""
        return self.broker_url or f"redis+socket://{self.broker_socket}?virtual_host=0"

    @property
    def quota_bytes(self) -> int | None:
        """How much jobs and profiles may take; None means no limit."""
        return int(self.quota_gb * 1e9) or None

    @property
    def jobs_dir(self) -> Path:
        """One folder per job: `<id>/log.txt`, `<id>/work/` (resumable), `<id>/result/` (finished)."""
        return self.home / "jobs"

    @property
    def texts_dir(self) -> Path:
        """Uploaded texts, each named by its SHA-256."""
        return self.home / "texts"

    @property
    def teachers_dir(self) -> Path:
        """What originals said of texts, for healing; made again when it is removed."""
        return self.home / "teachers"

    @property
    def is_exposed(self) -> bool:
        """Whether others than programs on this machine can reach the page."""
        return not is_loopback(self.host)

    @property
    def models_dir(self) -> Path:
        """Models prepared by the workbench itself: the demo."""
        return self.home / "models"


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(**given: Any) -> Settings:
    """The settings of the environment with `given` over them; raises SpecError naming variable and fix."""
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        name = field.removeprefix("mla_").lower()
        known = Settings.model_fields.get(name)
        about = (known.description or "") if known else ""
        raise SpecError(
            f"MLA_{name.upper()}: {first['msg']}", hint=about or "see MLA_ in the reference", field=name
        ) from error
