"""``llmrec embed``: vectors of text, attributes, pictures, videos and speech."""
