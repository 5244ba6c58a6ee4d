"""What all tables share: their metadata, and the types of their columns."""

import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    String,
    TypeDecorator,
)

HEAD: Final = "0009"
"""The newest migration. Comparing it is why an up-to-date registry opens without Alembic."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


class Instant(TypeDecorator[datetime.datetime]):
    """A moment in UTC; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        """Give a moment its zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=datetime.UTC)
        return value.astimezone(datetime.UTC)


# SQLite counts up by itself only in a column that is called INTEGER, which has 64 bits there.
BIG: Final = BigInteger().with_variant(Integer(), "sqlite")


def name(column: str, *arguments: Any, **options: Any) -> Column[str]:
    """A column for a name of ours."""
    return Column(column, String(128), *arguments, **options)
