# SPDX-License-Identifier: Apache-2.0
"""`mla-workbench doctor`: is everything there that a conversion needs?"""

import shutil
from importlib.metadata import PackageNotFoundError, version

from redis import Redis
from redis.exceptions import RedisError

from app.serve.broker import broker_answers
from core.calibrate.text import check_text
from core.errors import WorkbenchError
from core.settings import Settings
from core.spec import Calibration, Frozen
from core.store import open_store
from core.weights.locate import locate


class Check(Frozen):
    """One line of the report."""

    name: str
    ok: bool
    message: str


def checks(settings: Settings) -> list[Check]:
    """Run every check; the data folder is created and the tables are brought up to date."""
    return [
        _versions(),
        _device(),
        _disk(settings),
        _database(settings),
        _broker(settings),
        _demo(settings),
        _texts(),
    ]


def _versions() -> Check:
    names = ("mla-workbench", "torch", "transformers", "gradio", "celery")
    try:
        return Check(name="versions", ok=True, message=", ".join(f"{name} {version(name)}" for name in names))
    except PackageNotFoundError as error:
        return Check(name="versions", ok=False, message=f"{error.name} is not installed: run 'make install'")


def _device() -> Check:
    from core.devices import describe_devices

    return Check(name="devices", ok=True, message=describe_devices())


def _disk(settings: Settings) -> Check:
    settings.home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.home).free
    return Check(name="disk", ok=free > 2e9, message=f"{free / 1e9:,.1f} GB free in {settings.home}")


def _database(settings: Settings) -> Check:
    try:
        store = open_store(settings, migrate=True)
        jobs = store.count()
        store.close()
    except WorkbenchError as error:
        return Check(name="database", ok=False, message=str(error))
    return Check(name="database", ok=True, message=f"{jobs} jobs")


def _broker(settings: Settings) -> Check:
    if not settings.broker_url:
        # a socket alone may be what a killed server left behind
        is_up = broker_answers(settings)
        return Check(
            name="broker", ok=True, message="embedded, " + ("running" if is_up else "starts with serve")
        )
    try:
        Redis.from_url(settings.broker_url, socket_connect_timeout=2, socket_timeout=2).ping()
    except (RedisError, ValueError) as error:
        return Check(name="broker", ok=False, message=f"{error}: check MLA_BROKER_URL")
    return Check(name="broker", ok=True, message="answers")


def _demo(settings: Settings) -> Check:
    try:
        return Check(name="demo", ok=True, message=str(locate("demo", settings=settings).folder))
    except WorkbenchError as error:
        return Check(name="demo", ok=False, message=str(error))


def _texts() -> Check:
    try:
        check_text(Calibration().text)
    except WorkbenchError as error:
        return Check(name="texts", ok=False, message=str(error))
    return Check(name="texts", ok=True, message="sample articles are installed")
