"""The one error of this room."""

CONVERSION_FAILED = "conversion_failed"
CONVERSION_REFUSED = "conversion_refused"
UNREADABLE_TABLE = "unreadable_table"


class ConversionError(ValueError):
    """A table could not be converted.

    `code` is `conversion_refused` (it would corrupt or the target cannot hold it), `unreadable_table` (the source is
    not what its ending says) or `conversion_failed` (anything else); `message` says what happened to which table or
    column; `hint` says what to do about it, and may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def refused(message: str, hint: str = "") -> ConversionError:
    """Build the error for a conversion that is known to corrupt, or whose target cannot hold the table."""
    return ConversionError(CONVERSION_REFUSED, message, hint)


def unreadable(message: str, hint: str = "") -> ConversionError:
    """Build the error for a source that is no table, or not in the format that its ending names."""
    return ConversionError(UNREADABLE_TABLE, message, hint)
