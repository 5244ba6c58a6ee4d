"""Models, versions and aliases."""

import json
from typing import Any

from modelyard.core.administration import models as ask
from modelyard.core.administration.operation import Page
from modelyard.core.names import Reference, check_name
from modelyard.core.records import BundleSignature, Model, RouteChange, Version
from modelyard.registry.administration.office import Office, perform
from modelyard.registry.administration.paging import page_of


@perform.register
def list_models(request: ask.ListModels, office: Office) -> Page[Model]:
    """Every model that who asks may know of."""
    found = (each for each in office.registry.models() if office.sees(each.name))
    return page_of(found, lambda each: each.name, request)


@perform.register
def get_model(request: ask.GetModel, office: Office) -> Model:
    """One model; says what there is instead, where there is none."""
    office.registry.versions(check_name(request.model))
    [found] = (each for each in office.registry.models() if each.name == request.model)
    return found


@perform.register
def list_versions(request: ask.ListVersions, office: Office) -> Page[Version]:
    """A model's versions."""
    found = office.registry.versions(check_name(request.model))
    return page_of(found, lambda each: each.number, request)


@perform.register
def list_changes(request: ask.ListRouteChanges, office: Office) -> Page[RouteChange]:
    """The changes of a model's route."""
    found = office.registry.route_history(check_name(request.model))
    return page_of(found, lambda each: each.generation, request)


@perform.register
def get_version(request: ask.GetVersion, office: Office) -> Version:
    """What a reference means now."""
    return office.registry.resolve(Reference.parse(request.reference))


@perform.register
def get_manifest(request: ask.GetManifest, office: Office) -> Any:
    """A version's manifest, as plain values."""
    version = office.registry.resolve(Reference.parse(request.reference))
    return json.loads(office.registry.bundle(version).manifest.encode())


@perform.register
def verify_version(request: ask.VerifyVersion, office: Office) -> ask.Verified:
    """Read every byte; raises `DamagedBundle` naming the file."""
    version = office.registry.resolve(Reference.parse(request.reference))
    bundle = office.registry.bundle(version)
    bundle.verify()
    files = bundle.manifest.files
    return ask.Verified(
        digest=bundle.digest, files=len(files), size_bytes=sum(entry.size for entry in files)
    )


@perform.register
def list_signatures(request: ask.ListSignatures, office: Office) -> tuple[BundleSignature, ...]:
    """Those of its bundle."""
    version = office.registry.resolve(Reference.parse(request.reference))
    return tuple(office.registry.signatures.of(version.digest))


@perform.register
def add_signature(request: ask.AddSignature, office: Office) -> BundleSignature:
    """One more."""
    version = office.registry.resolve(Reference.parse(request.reference))
    return office.registry.signatures.add(
        version,
        office.registry.bundle(version).manifest,
        request.content,
        actor=office.actor,
        reason=request.reason,
    )


@perform.register
def get_alias(request: ask.GetAlias, office: Office) -> ask.Alias:
    """What an alias names."""
    model, alias = check_name(request.model), check_name(request.alias, "alias")
    version = office.registry.resolve(Reference(model, alias=alias))
    return ask.Alias(model=model, alias=alias, number=version.number)


@perform.register
def set_alias(request: ask.SetAlias, office: Office) -> ask.Alias:
    """Let an alias name a version."""
    model, alias = check_name(request.model), check_name(request.alias, "alias")
    office.registry.set_alias(
        model, alias, request.number, actor=office.actor, reason=request.reason
    )
    return ask.Alias(model=model, alias=alias, number=request.number)
