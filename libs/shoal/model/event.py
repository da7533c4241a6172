"""Events (core/v1): what happened to an object, told by a component; equal ones are counted."""

from typing import Annotated

from shoal.model.field import REQUIRED, TIME, one_of
from shoal.model.meta import Object, Record, always


class ObjectReference(Record, frozen=True, kw_only=True):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class EventSource(Record, frozen=True, kw_only=True):
    component: str = ""
    host: str = ""


class EventSeries(Record, frozen=True, kw_only=True):
    count: int = 0
    last_observed_time: Annotated[str, TIME] | None = None


class Event(Object, frozen=True, kw_only=True):
    api_version: str = always("v1")
    kind: str = always("Event")
    involved_object: Annotated[ObjectReference, REQUIRED] = ObjectReference()
    reason: str = ""
    message: str = ""
    source: EventSource = EventSource()
    first_timestamp: Annotated[str, TIME] | None = None
    last_timestamp: Annotated[str, TIME] | None = None
    count: int = 0
    type: Annotated[str, one_of("Normal", "Warning")] = ""
    event_time: Annotated[str, TIME] | None = None
    series: EventSeries | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""
