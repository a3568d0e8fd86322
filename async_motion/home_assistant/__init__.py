"""Discovery by Home Assistant: the table of entities, their payloads, and the removal of what is gone."""
