"""A server's gate: who is calling, within what limits, and what it is metered as."""

import asyncio
import datetime
from functools import partial
from typing import TYPE_CHECKING

from modelyard.core.config import Config

if TYPE_CHECKING:
    from modelyard.core.payloads import CaptureState
    from modelyard.core.ports import Access, Gate
    from modelyard.core.usage import SpoolState
    from modelyard.registry.registry import Registry
    from modelyard.wiring.remembered import RememberedRegistry


class Entrance:
    """What protocols ask and what endpoints ask, and what runs behind them.

    Every server knows keys. An open one lets in callers without one too, who have no limits and no
    usage.
    """

    def __init__(
        self, config: Config, registry: "Registry", remembered: "RememberedRegistry"
    ) -> None:
        from modelyard.gateway.access import FRONT, KeyedAccess
        from modelyard.gateway.capture.capture import PayloadWriter
        from modelyard.gateway.gate import KeyedGate
        from modelyard.gateway.limits.allowances import FOLDER as LIMITS_FOLDER
        from modelyard.gateway.limits.allowances import Allowances
        from modelyard.gateway.metering.metering import FOLDER as SPOOL_FOLDER
        from modelyard.gateway.metering.metering import Metering
        from modelyard.gateway.node_key import node_key
        from modelyard.gateway.open_access import OpenAccess
        from modelyard.gateway.open_gate import OpenGate
        from modelyard.gateway.visits import Visits
        from modelyard.registry.keeper import AuditKeeper
        from modelyard.wiring.issuers import issuers_of
        from modelyard.wiring.rules import RulesFollower

        self._allowances = Allowances(config.home / LIMITS_FOLDER, registry.leases)
        self._payloads = PayloadWriter(registry.payloads)
        self._issuers = issuers_of(config)
        visits = Visits()
        self._audit = AuditKeeper(registry.trail, partial(node_key, config.home), visits)
        keyed: KeyedAccess = KeyedAccess(
            allowance_of=self._allowances.of,
            capture_of=self._payloads.capture_of,
            visits=visits,
            authorities=[each.authority for each in self._issuers],
            unnamed=FRONT if config.fronted else None,
        )
        self._follower: RulesFollower = RulesFollower(
            remembered,
            keyed,
            every_s=config.poll_s,
            longest_s=config.snapshot_s,
            remembered=remembered.remembered_rules,
        )
        self._metering = Metering(
            config.home / SPOOL_FOLDER,
            registry.usage,
            bound_bytes=config.spool_bytes,
            keep=datetime.timedelta(days=config.usage_days),
        )
        self._follower.subscribe(self._metering.meter.on_rules)
        self._follower.subscribe(self._allowances.follow)
        self._follower.subscribe(self._payloads.on_rules)
        gate = KeyedGate(self._metering.meter, is_strict=config.meter_strict)
        self.access: Access = OpenAccess(keyed) if config.open else keyed
        self.gate: Gate = OpenGate(gate) if config.open else gate

    async def start(self) -> None:
        """Follow the rules; returns when they are in force, or nobody answers."""
        for issuer in self._issuers:
            issuer.keys.start()
        self._audit.start()
        self._metering.start()
        self._payloads.start()
        await self._follower.start()
        await self._allowances.start()

    def payloads(self) -> "CaptureState":
        """What became of the payloads that were chosen to be kept."""
        return self._payloads.state()

    def usage(self) -> "SpoolState":
        """How much usage is not copied to the registry yet, and what is wrong."""
        return self._metering.state()

    async def stop(self) -> None:
        """After the last call: write down what is to be written."""
        await self._follower.stop()
        await self._allowances.stop()
        for issuer in self._issuers:
            await asyncio.to_thread(issuer.keys.stop)
        await asyncio.to_thread(self._payloads.close)
        await asyncio.to_thread(self._metering.stop)
        # Last: what the others have written down is signed too.
        await asyncio.to_thread(self._audit.stop)
