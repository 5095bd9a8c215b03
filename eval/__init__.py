"""What an agent is worth: measuring, statistics, reports."""
