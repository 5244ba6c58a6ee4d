"""The first page: which models answer here, and a command that calls each."""

import html
import json
from collections.abc import Iterable

from modelyard.api.http.openapi import example_row
from modelyard.core.errors import ModelyardError
from modelyard.core.ports import Exchange, Listing

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#6b7280;--ok:#1a7f4b;--bad:#b3261e}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:0}
p.lead{color:var(--soft);margin:.25rem 0 2rem}
article{border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.25rem;margin:1rem 0}
header{display:flex;gap:.75rem;align-items:baseline}
.state{margin-left:auto;font-size:.85rem;font-weight:600}.ok{color:var(--ok)}.bad{color:var(--bad)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.75rem 0;
font-size:.9rem}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{background:#8881;border-radius:.4rem;padding:.75rem;overflow:auto;font-size:.8rem;margin:0;
white-space:pre-wrap;max-height:7rem}
a{color:inherit}
"""


def page(exchange: Exchange, listings: Iterable[Listing], base_url: str) -> str:
    """The page about some models, as HTML.

    `base_url` is how the caller reached us; everything is escaped.
    """
    cards = [_card(exchange, listing, base_url) for listing in listings]
    nothing = (
        "<p>No model is deployed yet. <code>modelyard train</code> or <code>modelyard import"
        "</code> makes a version, <code>modelyard deploy</code> serves it.</p>"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Modelyard</title><style>{_STYLE}</style>"
        "<h1>Modelyard</h1>"
        '<p class="lead">Models deployed on this server · <a href="/openapi.json">OpenAPI</a> · '
        '<a href="/v2/repository/index">index</a></p>'
        f"{''.join(cards) or nothing}</html>"
    )


def _card(exchange: Exchange, listing: Listing, base_url: str) -> str:
    name = html.escape(listing.model)
    title = f"<h2>{name}</h2><span>version {listing.version}</span>"
    try:
        served = exchange.find(listing.model, str(listing.version))
    except ModelyardError:
        reason = html.escape(listing.reason or "not serving")
        return (
            f'<article><header>{title}<span class="state bad">not serving</span></header>'
            f"<p>{reason}</p></article>"
        )
    inputs = ", ".join(
        f"{html.escape(spec.name)} {spec.datatype} {list(spec.shape)}"
        for spec in served.signature.inputs[:12]
    )
    outputs = ", ".join(
        f"{html.escape(spec.name)} {spec.datatype} {list(spec.shape)}"
        for spec in served.signature.outputs
    )
    return (
        f'<article><header>{title}<span class="state ok">ready</span></header><dl>'
        f"<dt>runs on</dt><dd>{html.escape(served.platform)}</dd>"
        f"<dt>inputs</dt><dd>{inputs}</dd><dt>outputs</dt><dd>{outputs}</dd>"
        f"<dt>bundle</dt><dd>{html.escape(served.digest)}</dd></dl>"
        f"{_command(served.model, example_row(served), base_url)}</article>"
    )


def _command(model: str, row: dict[str, object] | None, base_url: str) -> str:
    if row is None:
        return f"<pre>curl {html.escape(base_url)}/v2/models/{html.escape(model)}</pre>"
    body = json.dumps(row, ensure_ascii=False).replace("'", "'\\''")
    command = f"curl {base_url}/predict/{model} -d '{body}'"
    return f"<pre>{html.escape(command)}</pre>"
