"""PostgreSQL: connections, group commit, migrations, partitions, the embedded server."""
