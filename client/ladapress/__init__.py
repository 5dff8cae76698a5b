"""Client of ladapress, compression as a service for BERT-like encoders."""
