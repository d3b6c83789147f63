"""`mine serve`: a DICOM node that takes images in, looks at whole studies and sends results back."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import wiring
from cli.config import Configuration, Settings
from cli.exits import Exit
from cli.options import Invocation
from cli.options import command as make_command
from cli.output import Output, notice, plural
from deeplesion_miner.errors import ConfigError

if TYPE_CHECKING:
    import ssl

    from dicom_io.node import NodeRules, NodeSettings

EXAMPLE = """
mine serve --rules rules.toml --check-rules      # reads the rules and says what they do
mine serve --rules rules.toml --port 11113
"""
SETTINGS = ("serve.rules", "serve.port", "serve.ae_title", "serve.host", "serve.health_port", "run.work")
COLUMNS = ("rule", "peers", "modalities", "model", "emit", "destination")
_LOOK_S = 0.5


@make_command("serve", EXAMPLE, *SETTINGS)
@click.option("--check-rules", is_flag=True, help="Read the rule file, say what it does, and end.")
@click.pass_context
def command(context: click.Context, configuration: Configuration, output: Output, check_rules: bool) -> Exit:
    """Serve as a DICOM node: images in, results back.

    Who may send, which series go to which model and where results go stand in the rule file (docs/node.md). An object
    is on disk before its sender is told so. SIGTERM and Ctrl-C stop it: associations and jobs that run get some time
    to end, and what they did not finish goes on with the next start. The log goes to stderr, one JSON object a line.
    """
    from dicom_io.node import read_rules

    settings = configuration.settings
    if not settings.serve.rules:
        raise ConfigError("--rules FILE is missing: it says who may send, and what is done")
    rules = read_rules(Path(settings.serve.rules).expanduser(), _algorithm_of)
    _check_models(rules)
    if check_rules:
        rows = [(one.name, ",".join(one.peers or ("any",)), ",".join(one.modalities or ("any",)), one.model,
                 ",".join(one.emit), one.destination) for one in rules.rules]  # fmt: skip
        output.table("rule", COLUMNS, rows)
        notice(f"{plural(len(rules.peers), 'peer')}, {plural(len(rules.rules), 'rule')}: the rule file is well")
        return Exit.DONE
    return serve(settings, rules, context.ensure_object(Invocation).verbose)


def serve(settings: Settings, rules: NodeRules, verbose: bool) -> Exit:
    """Runs the node until a signal asks it to stop."""
    from cli.send import wire_settings
    from cli.serve_jobs import Workers
    from dicom_io.destination import open_wire
    from dicom_io.node import Node
    from dicom_io.node.allocator import limit_arenas
    from dicom_io.node.log import Overheard

    limit_arenas()
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    serve = settings.serve
    with wiring.outbox(settings) as outbox, Workers(settings, serve.jobs, verbose) as workers:
        # Archives report to the node itself, so under its title.
        send = replace(settings.send, calling_ae=serve.ae_title, report_port=None)
        wires = partial(open_wire, settings=wire_settings(send), outbox=outbox)
        node = Node(node_settings(settings, verbose), rules, outbox, workers.run, open_wire=wires,
                    tls=_server_tls(settings), client_tls=_client_tls(settings))  # fmt: skip
        threading.excepthook = node.thread_failed
        with Overheard(node.log):
            node.start()
            while not stop.wait(_LOOK_S):
                pass
            return Exit.DONE if node.stop() else Exit.PARTIAL


def node_settings(settings: Settings, verbose: bool) -> NodeSettings:
    """How the node is run. ConfigError for limits that cannot be."""
    from dicom_io.address import ae_title
    from dicom_io.node import NodeLimits, NodeSettings

    serve, archive = settings.serve, settings.archive
    limits = NodeLimits(
        associations=serve.max_associations,
        waiting=serve.max_waiting,
        request_s=serve.request_s,
        idle_s=serve.idle_s,
        pdu_bytes=serve.max_pdu_bytes,
        free_bytes=int(serve.least_free_mb * 1e6),
        open_studies=serve.max_open_studies,
        stop_s=serve.stop_s,
    )
    return NodeSettings(
        folder=settings.run.work / wiring.NODE,
        ae_title=ae_title(serve.ae_title),
        host=serve.host,
        port=serve.port,
        health_host=serve.health_host,
        health_port=serve.health_port,
        max_object_bytes=None if archive.max_object_mb is None else int(archive.max_object_mb * 1e6),
        concurrency=serve.jobs,
        keep_images_h=serve.keep_images_h,
        keep_journal_days=serve.keep_journal_days,
        verbose=verbose,
        limits=limits,
    )


def _check_models(rules: NodeRules) -> None:
    for one in rules.rules:
        if not one.model.is_dir():
            raise ConfigError(f"rule {one.name}: model {one.model}: there is no such folder")


def _algorithm_of(model: Path) -> str:
    """The name of a model's recipe, which its reports say; its folder where there is none, as its jobs will tell."""
    try:
        return str(json.loads((model / "recipe.json").read_text("utf-8"))["name"])
    except (OSError, ValueError, LookupError, TypeError):
        return str(model)


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    from dicom_io.tls import server_context

    serve = settings.serve
    if not serve.tls_certificate:
        return None
    if not serve.tls_key or not serve.tls_ca:
        raise ConfigError("[serve] tls_certificate needs tls_key, and tls_ca that signs the peers' certificates")
    return server_context(*(Path(one).expanduser() for one in (serve.tls_ca, serve.tls_certificate, serve.tls_key)))


def _client_tls(settings: Settings) -> ssl.SSLContext | None:
    """For the archives and peers that the node asks and reports to: as [send] says."""
    from dicom_io.tls import client_context

    send = settings.send
    if not send.tls:
        return None
    ca, certificate, key = (
        Path(one).expanduser() if one else None for one in (send.tls_ca, send.tls_certificate, send.tls_key)
    )
    return client_context(ca, certificate, key)
