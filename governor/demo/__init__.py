"""What `governor demo` needs beside governor: the embedded broker, a load, a Slack stand-in."""
