"""What is known of items: media, features, fusion, search and the schema of closed fields."""
