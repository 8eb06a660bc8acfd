"""REST under /api/v1: parse, call one service, reply."""
