"""Webhooks as the API shows them: it reads only, they are made and changed in the vendor's portal."""

from __future__ import annotations

from arena_async.net.pager import Pager
from arena_async.providers.centrepoint.asking import Asking, Demand
from arena_async.providers.centrepoint.auth import CENTREPOINT
from arena_async.providers.centrepoint.collection_models import Webhook, WebhookDelivery, WebhookEvent

__all__ = ["Webhooks"]


class Webhooks:
    """
    The webhooks of a study and what was sent to them; reached as ``client.webhooks``. Needs the scope ``CentrePoint``.

    Events can be lost for a day or arrive twice, and there is none for "a dataset file is ready"; what is in the lists
    is what counts.
    """

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def events(self) -> Pager[WebhookEvent]:
        """List the events that webhooks can be told about."""
        template = "/centrepoint/v3/WebhookEvents"
        return self._asking.walk(Demand(template=template, scope=CENTREPOINT, model=WebhookEvent))

    def search(self, study: int | str) -> Pager[Webhook]:
        """List the webhooks of a study."""
        template = "/centrepoint/v3/Studies/{study}/Webhooks"
        return self._asking.walk(Demand(template=template, scope=CENTREPOINT, model=Webhook, study=study))

    async def get(self, study: int | str, webhook: int | str) -> Webhook:
        """
        Give one, by what names it.

        Raises:
            NotFoundError: There is no such webhook.
        """
        template = "/centrepoint/v3/Studies/{study}/Webhooks/{webhook}"
        return await self._asking.one(
            Demand(template=template, scope=CENTREPOINT, model=Webhook, study=study, parts={"webhook": webhook})
        )

    def history(self, study: int | str, webhook: int | str) -> Pager[WebhookDelivery]:
        """List what was sent to a webhook, what came back, and what did not arrive."""
        template = "/centrepoint/v3/Studies/{study}/Webhooks/{webhook}/history"
        return self._asking.walk(
            Demand(template=template, scope=CENTREPOINT, model=WebhookDelivery, study=study, parts={"webhook": webhook})
        )
