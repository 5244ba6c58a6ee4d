"""The audit."""

from dataclasses import dataclass

from modelyard.core.administration.operation import USUAL_PAGE, Page, Request, operation
from modelyard.core.identity import Verb
from modelyard.core.records import AuditRow


@operation("GET", "/audit", Verb.AUDIT, tag="audit", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ListAudit(Request[Page[AuditRow]]):
    """Who changed what, newest first; of one model where one is named."""

    model: str = ""
    limit: int = USUAL_PAGE
    cursor: str = ""
