"""Links move bytes (serial, TCP, VISA, memory); a session makes questions and answers of them."""
