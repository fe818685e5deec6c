"""The verb `app`: from a checkpoint to a page that is served until it is interrupted."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig

from bloodcell.data.images import MAX_PIXELS
from bloodcell.runtime.config import check_types, plain
from bloodcell.runtime.console import say
from bloodcell.runtime.errors import BloodcellError


def run(cfg: DictConfig) -> None:
    """Serve the page as the command line says, until it is interrupted."""
    from hydra.core.hydra_config import HydraConfig

    check_types("app", list(HydraConfig.get().overrides.task))
    serve(plain(cfg))


def serve(config: dict[str, Any]) -> None:
    """Serve the page.

    Args:
        config: The plain configuration of `conf/app.yaml`.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    _require_extra()
    check(config)
    from bloodcell.app.server import address_of, bound, is_loopback, run_until_stopped

    with bound(str(config["host"]), config["port"]) as listening:  # first: loading takes seconds
        app = application_of(config)
        if not is_loopback(listening):
            say(f"warning: host={config['host']} lets other machines in, and the page asks nobody for a password")
        address = address_of(listening)
        say(f"the page is at {address} until Ctrl+C")
        if config["open_browser"]:
            import webbrowser

            webbrowser.open(address)
        run_until_stopped(app, listening)
    say("the page is closed")


def application_of(config: dict[str, Any]) -> Any:
    """Return the page and what answers it, an ASGI application.

    Raises:
        BloodcellError: There is no such checkpoint, or no such threshold.
    """
    from bloodcell.app.classifier_summary import about, sureness
    from bloodcell.app.examiner import Examiner
    from bloodcell.app.routes import application
    from bloodcell.inference.ensemble import Jury
    from bloodcell.inference.predict import engines_of

    jury = Jury(engines_of(config), config["tta"])
    threshold, words = sureness(config["abstain_below"], config["error_rate"], jury.engines, config["tta"])
    examiner = Examiner(jury, threshold, config["max_pixels"])
    values = {**about(jury), "sureness": words, "no_map": examiner.no_map}
    return application(examiner, values, round(config["max_megabytes"] * 1e6), str(config["host"]))


def check(config: dict[str, Any]) -> None:
    """Check the numbers.

    Raises:
        BloodcellError: One is out of its range.
    """
    ranges = {"port": (0, 65_535), "max_megabytes": (0.001, 1000), "max_pixels": (1, MAX_PIXELS)}
    for key, (least, most) in ranges.items():
        if not isinstance(config[key], int | float) or not least <= config[key] <= most:
            raise BloodcellError(f"{key}={config[key]}; give a number from {least:,} to {most:,}")


def _require_extra() -> None:
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise BloodcellError(f"the page needs {' and '.join(missing)}: pip install 'bloodcell[app]'")
