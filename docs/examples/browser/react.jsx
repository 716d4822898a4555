import { Client } from "bigupload";
import { useEffect, useReducer, useState } from "react";
import { createRoot } from "react-dom/client";

/** The uploads of one service, rendered again whenever they change. */
function useUploads(endpoint, token) {
  const [, render] = useReducer((count) => count + 1, 0);
  const [client, setClient] = useState(null);
  useEffect(() => {
    let frame = null;
    const made = new Client({
      endpoint,
      token,
      // It changes many times a second: once a frame is enough.
      onChange: () => (frame ??= requestAnimationFrame(() => ((frame = null), render()))),
    });
    setClient(made);
    made.unfinished(); // of earlier visits: each needs its file again
    return () => {
      cancelAnimationFrame(frame);
      made.close();
    };
  }, [endpoint, token]);
  return client;
}

function Row({ upload }) {
  const { state, name, problem, result, progress } = upload;
  if (state === "done") return <li><a href={result.publicUrl}>{name}</a></li>;
  return (
    <li>
      {name} <progress aria-label={name} value={progress.sent} max={progress.size} /> {problem?.message ?? state}
      {upload.running && <button onClick={() => upload.pause()}>Pause</button>}
      {["paused", "failed"].includes(state) && <button onClick={() => upload.resume()}>Resume</button>}
      {state !== "cancelled" && <button onClick={() => upload.cancel()}>Cancel</button>}
    </li>
  );
}

const token = async () => (await (await fetch("/upload-token", { method: "POST" })).json()).token; // of your own backend

function Uploads() {
  const client = useUploads("https://media.example.com/", token);
  if (!client) return null;
  const add = ({ target }) => {
    for (const file of target.files) client.upload(file);
    target.value = "";
  };
  return (
    <>
      <label>Files <input type="file" multiple onChange={add} /></label>
      <ul>{client.uploads.map((upload) => <Row key={upload.id} upload={upload} />)}</ul>
    </>
  );
}

createRoot(document.getElementById("root")).render(<Uploads />);
