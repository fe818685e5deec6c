"""The verb `app`: serve the page until Ctrl+C."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig

from bloodcell.data.image_limits import MAX_PIXELS
from bloodcell.runtime.command import answer_words, prediction_by, say_end
from bloodcell.runtime.config import listed, typed
from bloodcell.runtime.console import progress, say
from bloodcell.runtime.errors import BloodcellError
from bloodcell.runtime.schema.checks import require
from bloodcell.runtime.schema.verbs import AppConfig


def run(cfg: DictConfig) -> None:
    """Serve the page until Ctrl+C."""
    serve(typed(cfg, AppConfig))
    raise SystemExit(0)  # at once, even if an image is still being examined


def serve(config: AppConfig) -> None:
    """Serve the page."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise BloodcellError(f"the page needs {' and '.join(missing)}: pip install 'bloodcell[app]'")
    from bloodcell.app.server import address_of, bound, is_loopback, run_until_stopped

    with bound(config.host, config.port) as listening:  # first: loading takes seconds
        with progress("preparing the page"):
            app = folder_application(config) if config.images is not None else application_of(config)
        if not is_loopback(listening):
            say(f"warning: host={config.host} lets other machines in, and the page asks nobody for a password")
        address = address_of(listening)
        say(f"the page is at {address} until Ctrl+C")
        if config.open_browser:
            import webbrowser

            webbrowser.open(address)
        run_until_stopped(app, listening)
    say("the page is closed")
    say_end(then=[*prediction_by(listed(config.checkpoint)), *answer_words(config.classes)])


def folder_application(config: AppConfig) -> Any:
    """Return the ASGI application of the page that shows all cells of a folder.

    Raises:
        BloodcellError: The configuration or an input is wrong, or decisions cannot be kept.
    """
    from bloodcell.app.review.page import page_of_folder
    from bloodcell.app.security import LOOPBACK

    if config.host.lower() not in LOOPBACK:
        raise BloodcellError(
            f"host={config.host}: with images=FOLDER the page writes corrections, and it asks nobody for a password; "
            "leave out host"
        )
    return page_of_folder(config)


def application_of(config: AppConfig) -> Any:
    """Return the page's ASGI application.

    Raises:
        BloodcellError: There is no such checkpoint, or no such threshold.
    """
    from bloodcell.app.classifier_summary import about, sureness
    from bloodcell.app.examiner import Examiner
    from bloodcell.app.routes import application
    from bloodcell.inference.ensemble import Ensemble
    from bloodcell.inference.predict import engines_of

    require(1 <= config.max_pixels <= MAX_PIXELS, "max_pixels", config.max_pixels, f"give 1 to {MAX_PIXELS:,}")
    ensemble = Ensemble(engines_of(config), config.tta, "whole" if config.cells == "whole" else "one")
    threshold, words = sureness(config.abstain_below, config.error_rate, ensemble.engines, ensemble.tta)
    examiner = Examiner(ensemble, threshold, config.max_pixels, config.cells)
    values = {**about(ensemble, config.cells), "sureness": words, "no_map": examiner.no_map}
    return application(examiner, values, round(config.max_megabytes * 1e6), config.host)
