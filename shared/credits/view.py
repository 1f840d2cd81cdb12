"""What a caller sees of the ledger."""

from pydantic import BaseModel

from shared.credits.ledger import Entry, EntryType


class EntryView(BaseModel):
    """One change of an account; the three balances are those after it."""

    id: str
    type: EntryType
    amount: int
    available: int
    held: int
    spent: int
    job_id: str | None
    reason: str | None
    created_at: str

    @classmethod
    def of(cls, entry: Entry) -> "EntryView":
        return cls(**vars(entry))
