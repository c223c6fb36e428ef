// Adding a task by hand.
import { useState } from "preact/hooks";
import { Dialog, Trouble, useAction } from "./parts.tsx";

export function AddTask({ onClose }: { onClose: () => void }) {
  const [description, setDescription] = useState("");
  const [key, setKey] = useState("");
  const [priority, setPriority] = useState("5");
  const action = useAction();
  return (
    <Dialog title="Add a task" onClose={onClose}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void action.run("task_add", { description, priority: Number(priority), ...(key.trim() === "" ? {} : { key: key.trim() }) }, onClose);
        }}
      >
        <label>What is to be done <textarea name="description" rows={4} required value={description} onInput={(event) => setDescription(event.currentTarget.value)} /></label>
        <div class="fields">
          <label>Priority (lower runs first) <input name="priority" type="number" step="1" value={priority} onInput={(event) => setPriority(event.currentTarget.value)} /></label>
          <label>Key (unique, optional) <input name="key" value={key} onInput={(event) => setKey(event.currentTarget.value)} /></label>
        </div>
        <Trouble error={action.error} />
        <div class="buttons">
          <button class="is-main" disabled={action.busy}>Add</button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}
