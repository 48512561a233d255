"""The network: torch and performer-pytorch; knows no AnnData and no paths."""
