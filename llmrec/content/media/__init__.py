"""Pictures, videos and sound: fetched and decoded within bounds of size, time and memory."""
