"""The database: tables, migrations, queries. One noun a file; nothing here decides anything."""
