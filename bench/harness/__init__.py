"""What the sections share: worker processes, statistics, the report."""
