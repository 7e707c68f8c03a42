"""Callbacks of one gateway process: what callers ask for, and the sender that tells it."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from headrace.actors.store_callbacks import CallbackStore
from headrace.actors.store_requests import RequestStore
from headrace.gateway.addresses import partition
from headrace.gateway.callback_sender import CallbackSender
from headrace.gateway.callback_targets import Resolver, TargetRefused, TargetRules, networks_of, resolve
from headrace.gateway.problems import ProblemError
from headrace.gateway.settings import GatewaySettings
from headrace.sources.standard_webhooks import secrets_of
from headrace.workflows.calling_back import HEADER
from headrace.workflows.records import Headers
from headrace.workflows.store import WorkflowDescriptor

CALLBACK_PROBLEMS: Final = ("no_callbacks", "callback_refused", "callbacks_full")


class Callbacks:
    """Takes addresses in, and tells them.

    Args:
        store: Connection to the store.
        settings: Limits, secrets, and what may be called.
        resolver: Finds the addresses of names.
    """

    def __init__(self, store: RequestStore, settings: GatewaySettings, *, resolver: Resolver = resolve) -> None:
        self.store = CallbackStore(store)
        self._most = settings.callbacks_waiting
        networks = networks_of(settings.callback_networks)
        self._rules = TargetRules(networks, plain=settings.callback_plain, resolver=resolver)
        self._sender: CallbackSender | None = None
        if secrets := secrets_of(settings.callback_secrets):
            self._sender = CallbackSender(
                store, self._rules, secrets, within=settings.callback_seconds,
                first_pause=settings.callback_first_pause, give_up=settings.callback_give_up,
                per_target=settings.callback_per_target,
            )  # fmt: skip

    async def open(self) -> None:
        """Begin to tell, if there are secrets to sign with."""
        if self._sender is not None:
            await self._sender.open()

    async def close(self) -> None:
        """Tell nothing more."""
        if self._sender is not None:
            await self._sender.close()

    async def asked(self, request: Request, workflow: WorkflowDescriptor, key: str) -> Headers:
        """Headers for the event of a request that asks for callbacks; none if it doesn't.

        Args:
            request: The caller's.
            workflow: For which workflow.
            key: Of the run.

        Raises:
            ProblemError: They can't be had, or the address may not be called, or too many wait.
            StoreUnavailable: The store does not answer.
        """
        given = request.headers.getlist(HEADER)
        if not given:
            return ()
        if self._sender is None:
            raise ProblemError("no_callbacks", "this gateway has no secrets to sign callbacks with")
        if len(given) > 1:
            raise ProblemError("callback_refused", "the header Headrace-Callback comes more than once")
        url = given[0].strip()
        try:
            await self._rules.check(url)
        except TargetRefused as error:
            raise ProblemError("callback_refused", error.reason) from error
        number = partition(workflow, key)
        if await self.store.waiting(workflow.name, number) >= self._most:
            raise ProblemError("callbacks_full", f"{self._most} callbacks wait in partition {number}")
        return ((HEADER, url.encode()),)
