"use strict";
const find = (selector) => element.querySelector(selector);
const [status, results, photos, make] = [find(".status"), find("[name=results]"), find("[name=photos]"), find(".make")];

const answered = async (call) => {
  try {
    return (await call()) || { error: "no answer came: is the app still running?" };
  } catch (error) {
    return { error: `no answer came (${error.message || error}): is the app still running?` };
  }
};

make.addEventListener("click", async () => {
  make.disabled = true;
  find(".where").hidden = true;
  status.textContent = "The page is being made, which can take a minute.";
  const told = await answered(() => server.make({ name: results.value, photos: Number(photos.value) }));
  make.disabled = false;
  status.textContent = told.error || `The page is there: ${told.shown}${told.unread ? `; could not be read: ${told.unread}` : ""}.`;
  if (told.error) return;
  find(".where").hidden = false;
  find(".where span").textContent = "Open this in a browser:";
  find(".where code").textContent = told.address;
  find(".copy").onclick = async () => {
    await navigator.clipboard.writeText(told.address);
    status.textContent = "The address is copied.";
  };
});

answered(() => server.evaluated({})).then((told) => {
  const known = told.evaluated || [];
  results.replaceChildren(
    ...known.map(({ name, photos: count }) =>
      Object.assign(document.createElement("option"), { value: name, textContent: `${name} (${count} photos)` }),
    ),
  );
  photos.max = told.most || 1000;
  make.disabled = !known.length;
  if (!known.length) status.textContent = told.error || "No run is evaluated yet: run 05_evaluation/evaluate.ipynb first.";
  element.firstElementChild.dataset.ready = "yes";
});
