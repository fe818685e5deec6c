"""The page that shows all cells of a folder, takes corrections, and has them learnt."""
