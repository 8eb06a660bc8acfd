"""The audit log: who did what, when, from where, on what, with which outcome; and the proof that nobody changed it.

An event is written in the transaction of the change (`record`). Within a second one control plane gives it its place
in an RFC 6962 Merkle log (`log.integrate`), whose head is signed by a key outside the database and handed to a witness.
"""

from groundplane.services.audit.people import Person, Private
from groundplane.services.audit.recording import RECORDED, record, tell

__all__ = ["RECORDED", "Person", "Private", "record", "tell"]
