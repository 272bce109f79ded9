"""Rules as checked values, one file a kind; `rulebook` reads them from YAML."""
