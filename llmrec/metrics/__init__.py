"""How good is a recommender, how sure are we, and who is it good for."""
