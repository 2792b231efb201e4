"""What the sections share: servers, worker processes, statistics, the report."""
