"""Steps: one module and one public function per rule and per command."""
