"""Models, versions and aliases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.core.administration.operation import USUAL_PAGE, Body, Page, Request, operation
from modelyard.core.identity import Verb
from modelyard.core.records import BundleSignature, Model, RouteChange, Version


@operation("GET", "/models", Verb.READ, tag="models")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListModels(Request[Page[Model]]):
    """Every model, by name."""

    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/models/{model}", Verb.READ, tag="models")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetModel(Request[Model]):
    """One model."""

    model: str


@operation("GET", "/models/{model}/versions", Verb.READ, tag="models")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListVersions(Request[Page[Version]]):
    """Every version of a model, oldest first."""

    model: str
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/models/{model}/changes", Verb.READ, tag="models")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListRouteChanges(Request[Page[RouteChange]]):
    """Every change of a model's route, oldest first."""

    model: str
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/versions/{reference}", Verb.READ, tag="versions")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetVersion(Request[Version]):
    """The version that a reference means now.

    `churn:3`, `churn@champion`, or `churn`: its routed version, or else the newest accepted one.
    """

    reference: str


@operation("GET", "/versions/{reference}/manifest", Verb.READ, tag="versions")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetManifest(Request[Mapping[str, Any]]):
    """A version's `bundle.json`: what it is, where it came from, how good it is."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A bundle of which every byte was read, and was what its digest says."""

    digest: str
    files: int
    size_bytes: int
    whole: bool = True


@operation("POST", "/versions/{reference}/verify", Verb.READ, tag="versions", is_slow=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyVersion(Request[Verified]):
    """Read every byte of a version's bundle and hold it against its digest."""

    reference: str


@operation("GET", "/versions/{reference}/signatures", Verb.READ, tag="versions")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListSignatures(Request[tuple[BundleSignature, ...]]):
    """The signatures beside a version's bundle, oldest first; unproven."""

    reference: str


@operation(
    "POST", "/versions/{reference}/signatures", Verb.DEPLOY, tag="versions", guards=ListSignatures
)
@dataclass(frozen=True, slots=True, kw_only=True)
class AddSignature(Request[BundleSignature]):
    """Keep a signature of the OpenSSF format beside a version's bundle; `content` is in base64."""

    reference: str
    content: bytes
    reason: str = ""


@operation("GET", "/versions/{reference}/archive", Verb.READ, tag="versions", gives=Body.ARCHIVE)
@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Request[None]):
    """A version's bundle as one file, an OCI image layout. Every byte is verified before."""

    reference: str


@operation(
    "POST",
    "/versions",
    Verb.DEPLOY,
    tag="versions",
    takes=Body.ARCHIVE,
    status=201,
    is_slow=True,
    once=False,
    location="/versions/{model}:{number}",
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Request[Version]):
    """Publish a bundle from a file that export wrote, as the next version of the model it names.

    A bundle that is a version already gives that version. The whole file is verified first.
    """

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A movable name, and the version that it names."""

    model: str
    alias: str
    number: int


@operation("GET", "/models/{model}/aliases/{alias}", Verb.READ, tag="models")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetAlias(Request[Alias]):
    """An alias and the version that it names."""

    model: str
    alias: str


@operation("PUT", "/models/{model}/aliases/{alias}", Verb.DEPLOY, tag="models", guards=GetAlias)
@dataclass(frozen=True, slots=True, kw_only=True)
class SetAlias(Request[Alias]):
    """Let an alias name a version, wherever it pointed before."""

    model: str
    alias: str
    number: int
    reason: str = ""
